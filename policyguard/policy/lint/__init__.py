"""What loads and is probably not meant: warnings over a whole set of policies. None changes what is enforced."""
