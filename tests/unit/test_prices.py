"""What remote work costs: the price lists, billed steps, and what `LONGTAKE_PRICES` may say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from longtake.errors import LongtakeError
from longtake.models.backends import CloudRunBackend, LambdaBackend, RemoteBackend
from longtake.prices import Prices

LAMBDA = LambdaBackend(memory_mb=2048)
CLOUD_RUN = CloudRunBackend(memory_mb=4096, vcpus=2)


@pytest.mark.parametrize(
    ("backend", "seconds", "calls", "measured_mb", "usd"),
    [
        (LAMBDA, 100, 1, None, 100 * 2 * 0.0000166667 + 0.0000002),
        (LAMBDA, 100, 10, None, 100 * 2 * 0.0000166667 + 0.000002),
        (LAMBDA, 10, 1, 1024, 10 * 0.0000166667 + 0.0000002),
        (LAMBDA, 0, 0, None, 0),
        (CLOUD_RUN, 100, 1, None, 100 * (2 * 0.000024 + 4 * 0.0000025) + 0.0000004),
    ],
    ids=[
        "Lambda bills memory, time and the call",
        "each call is billed",
        "measured memory counts more than what the job says",
        "nothing called costs nothing",
        "Cloud Run bills vCPUs, memory and the request",
    ],
)
def test_work_is_billed_as_services_bill_it(
    backend: RemoteBackend, seconds: float, calls: int, measured_mb: int | None, usd: float
) -> None:
    assert Prices().compute_cost(backend, seconds, calls, memory_mb=measured_mb) == pytest.approx(usd)


@pytest.mark.parametrize(
    ("seconds", "milliseconds", "tenths"),
    [(0, 0, 0), (0.0001, 1, 1), (0.0011, 2, 1), (1.1, 1100, 11), (0.3, 300, 3), (0.7, 700, 7), (2.301, 2301, 24)],
)
def test_each_call_is_billed_in_whole_steps(seconds: float, milliseconds: int, tenths: int) -> None:
    prices = Prices(lambda_request=0, cloud_run_request=0)

    assert prices.compute_cost(LAMBDA, seconds) == pytest.approx(milliseconds / 1000 * 2 * prices.lambda_gb_second)
    a_second = 2 * prices.cloud_run_vcpu_second + 4 * prices.cloud_run_gib_second
    assert prices.compute_cost(CLOUD_RUN, seconds) == pytest.approx(tenths / 10 * a_second)


@given(seconds=st.floats(min_value=0, max_value=1e5), calls=st.integers(min_value=1, max_value=1000))
def test_a_bill_is_never_lower_than_the_time_and_higher_by_a_step_a_call_at_most(seconds: float, calls: int) -> None:
    prices = Prices(lambda_request=0)
    billed = prices.compute_cost(LAMBDA, seconds, calls) / (2 * prices.lambda_gb_second)

    assert seconds - 1e-6 * calls <= billed <= seconds + 0.001 * calls + 1e-6 * calls


def test_prices_are_read_from_the_setting_and_the_rest_stays() -> None:
    prices = Prices.from_environ({"LONGTAKE_PRICES": "lambda_gb_second=0.0000133334  cloud_run_request=0"})

    assert prices.lambda_gb_second == 0.0000133334
    assert prices.cloud_run_request == 0
    assert prices.lambda_request == Prices().lambda_request
    assert "but cloud_run_request, lambda_gb_second of LONGTAKE_PRICES" in prices.source
    assert Prices.from_environ({}) == Prices()
    assert "LONGTAKE_PRICES changes them" in Prices().source


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("lambda_gb_secnd=1", "LONGTAKE_PRICES: 'lambda_gb_secnd' is not a price; did you mean lambda_gb_second?"),
        ("=1", "LONGTAKE_PRICES: '' is not a price; known: lambda_gb_second, lambda_request,"),
        ("0.00001", "LONGTAKE_PRICES: '0.00001' is not a price; known: "),
        ("lambda_request", "LONGTAKE_PRICES: lambda_request is empty; write USD from 0 to 1000"),
        ("lambda_request=", "LONGTAKE_PRICES: lambda_request is empty; write USD"),
        ("lambda_request=-1", "LONGTAKE_PRICES: lambda_request is -1; write USD"),
        ("lambda_request=nan", "LONGTAKE_PRICES: lambda_request is nan; write USD"),
        ("lambda_request=inf", "LONGTAKE_PRICES: lambda_request is inf; write USD"),
        ("lambda_request=0,2", "LONGTAKE_PRICES: lambda_request is 0,2; write USD from 0 to 1000, as in"),
        ("lambda_request=\x1b[31m", "LONGTAKE_PRICES: lambda_request is \\x1b[31m; write USD"),
    ],
)  # fmt: skip
def test_a_bad_price_is_refused_in_one_sentence(text: str, sentence: str) -> None:
    with pytest.raises(LongtakeError) as caught:
        Prices.parse(text)

    assert str(caught.value).startswith(sentence)
    assert str(caught.value).isprintable()
