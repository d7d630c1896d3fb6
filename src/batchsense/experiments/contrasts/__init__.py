"""What people want to compare: sums of level means, interactions, designs written as formulas."""
