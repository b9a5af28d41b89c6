# SPDX-License-Identifier: Apache-2.0
"""mlx_backend: a model of this machine; smart_backend_selector: who can answer here; llm_client: whoever a URL names."""
