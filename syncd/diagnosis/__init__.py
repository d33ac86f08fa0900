"""What is wrong with a configuration, this machine and GitHub, and what to do about it.

`syncd doctor` runs every check, `syncd check --online` those about GitHub. Each module has one
subject: it asks the layer below for facts and judges them. Nothing here prints, and nothing is
written but a login's renewed tokens.
"""
