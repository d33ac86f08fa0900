-- The bytes of a content of another size than the manifest's stay where they are.
SELECT blob.id, CASE WHEN octet_length(blob.data) = wanted.size THEN blob.data END
  FROM unnest(%s::text[], %s::bigint[]) AS wanted (id, size)
  JOIN syncd.blob ON blob.id = wanted.id
