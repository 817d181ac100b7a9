"""Numbers in the sample columns of a VCF line."""

import numpy as np
import pytest

from features.genomics.numbers import WrongNumberError, read_numbers


def test_numbers_are_read_as_python_reads_them() -> None:
    rng = np.random.default_rng(4)
    words = [
        "0",
        "1",
        "2",
        ".",
        "0.1",
        "1e1",
        "12",
        "007",
        "99999999",
        "123456789",
        "12.5",
        "1.2e-05",
        "1.234",
        "0.123456",
        "0.1234567",
        "1e-05",
        "2.",
        ".25",
        "0.00001234567",
    ]
    for _ in range(300):
        place, most, samples = rng.integers(0, 3), rng.integers(1, 4), rng.integers(1, 9)
        expected, columns = np.full((samples, most), np.nan), []
        for sample in range(samples):
            values = rng.choice(words, rng.integers(1, most + 1))
            expected[sample, : len(values)] = [np.nan if word == "." else float(word) for word in values]
            fields = [*rng.choice(["0/1", "12", "a,b", "1,2,3"], place), ",".join(values), "7,7"]
            cut = rng.integers(1, len(fields) + 1)
            if cut <= place:
                expected[sample] = np.nan
            columns.append(":".join(fields[:cut]))
        text = "\t".join(columns).encode()
        np.testing.assert_array_equal(read_numbers(text, samples, int(place), int(most)), expected)
    with pytest.raises(WrongNumberError):
        read_numbers(b"0.1,0.2,0.3\t0.1", 2, 0, 2)
