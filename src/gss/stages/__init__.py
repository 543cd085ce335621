"""The two LightningModules: stage=prior (the paper's stage I) and stage=conditioning (stage II)."""
