"""What control leaves out, put back into its loop: what each would cost."""
