"""Scene: full batches do not fit, and small steps tell where the wall stands."""

from batchsense.training import digits_workload, fit_memory_envelope


def test_the_wall_is_found_without_running_into_it() -> None:
    """Steps of a few examples tell the largest batch size for a budget; one more is too many."""
    envelope = fit_memory_envelope(digits_workload())
    budget = 2_000_000_000

    largest = envelope.max_batch_size(budget)

    assert largest > 100_000
    assert envelope.peak_bytes(largest) <= budget < envelope.peak_bytes(largest + 1)


def test_a_line_through_small_steps_would_mislead() -> None:
    """Small steps peak in the optimiser, large ones in the activations: the slope changes."""
    envelope = fit_memory_envelope(digits_workload())

    slope_small = envelope.peak_bytes(5) - envelope.peak_bytes(4)
    slope_large = envelope.peak_bytes(100_001) - envelope.peak_bytes(100_000)

    assert slope_large > 1.5 * slope_small
