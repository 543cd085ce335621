"""The conditioning network I_psi: from the photograph to scores over tokens of the paper."""
