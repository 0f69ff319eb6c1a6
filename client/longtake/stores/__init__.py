"""Where jobs publish and where their records lie: a directory, or a bucket that speaks S3."""
