"""The command line `longtake`: one file a noun; results on stdout, everything else on stderr."""
