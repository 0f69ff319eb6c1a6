"""Stores of jobs, for their outputs and records: directories, and buckets of services that speak S3."""
