"""Other people's recommenders beside the student: the same requests on the same machine, in an environment of their own."""
