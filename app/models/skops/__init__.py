"""Models that clients bring as skops files: judged before anything of them is loaded."""
