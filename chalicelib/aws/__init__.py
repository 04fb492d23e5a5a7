"""The core's ports, kept by AWS. Imported when the World is first built, because botocore takes long to import."""
