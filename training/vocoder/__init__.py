"""Units into speech: a unit HiFi-GAN that predicts durations, taught here, and loaded by transformers as it is."""
