"""The conditioning network I_psi: from the photograph to scores over tokens (section 3.4 of the paper)."""
