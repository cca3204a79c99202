"""What a person sees: live lines, status, plan, summary."""
