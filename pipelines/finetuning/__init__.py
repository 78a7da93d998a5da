"""Training by gradient: a linear head on an encoder's vectors, or the encoder together with such a head."""
