"""The conditioning network I_psi: from the image to scores over tokens of the paper."""
