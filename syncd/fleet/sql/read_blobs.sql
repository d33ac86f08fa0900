SELECT id, data FROM syncd.blob WHERE id = ANY (%s)
