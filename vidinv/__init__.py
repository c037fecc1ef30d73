"""vidinv: edit faces in video by GAN inversion."""
