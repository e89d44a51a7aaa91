"""The command line `langcore`: options -> one call -> print."""
