"""What is burned into images: words, marks and artefacts, found by detectors that each declare themselves."""
