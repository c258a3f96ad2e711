"""What a prompt is worth on a model, told without a judge: probes whose answers rules decide."""
