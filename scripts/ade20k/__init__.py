"""What `download_ade20k.py` downloads and unpacks with: a server and an archive may misbehave in any way."""
