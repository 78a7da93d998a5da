"""Loading families: how a record of one library becomes an encoder."""
