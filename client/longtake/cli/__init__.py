"""The command line `longtake`: results on stdout, messages and progress on stderr."""
