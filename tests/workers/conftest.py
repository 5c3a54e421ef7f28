"""Settings of all tests that compute."""

import torch

torch.set_num_threads(1)
