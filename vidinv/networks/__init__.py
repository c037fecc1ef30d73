"""Networks of public weights that several rooms use: backbones, recognition, face parsing."""
