"""For code that computes a JPEG and for surrogates of your own: assertions, laws, the derivative of real files."""

from jpegrad.testing.assertions import PILLOW_SUBSAMPLING as PILLOW_SUBSAMPLING
from jpegrad.testing.assertions import GradientError as GradientError
from jpegrad.testing.assertions import SampleError as SampleError
from jpegrad.testing.assertions import assert_gradient as assert_gradient
from jpegrad.testing.assertions import assert_levels as assert_levels
from jpegrad.testing.assertions import assert_samples as assert_samples
from jpegrad.testing.assertions import gradient_error as gradient_error
from jpegrad.testing.assertions import near_tie as near_tie
from jpegrad.testing.assertions import pillow as pillow
from jpegrad.testing.assertions import sample_error as sample_error
from jpegrad.testing.assertions import samples_that_differ as samples_that_differ
from jpegrad.testing.laws import SurrogateReport as SurrogateReport
from jpegrad.testing.laws import check_surrogate as check_surrogate
from jpegrad.testing.sampled import Agreement as Agreement
from jpegrad.testing.sampled import SampledGradient as SampledGradient
from jpegrad.testing.sampled import real_gradient as real_gradient
