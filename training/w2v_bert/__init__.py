"""Pre-training of w2v-BERT 2.0 on speech alone: masked contrastive learning and masked prediction of codes."""
