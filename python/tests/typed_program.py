# SPDX-License-Identifier: Apache-2.0
"""A program of a user's, for mypy --strict: what the names of the package are to a type checker. It is checked, not run; a line that
is wrong on purpose says so, and mypy would complain if it were right."""
import asyncio
from typing import Any, Dict, List, Optional

from src.llm.llm_client import LLMClient as SeedClient
from whisperengine.errors import ModelNotFoundError, WhisperEngineError
from whisperengine.llm.llm_client import LLMClient
from whisperengine.llm.mlx_backend import (MLXBackend, MLXModelConfig, convert_model_to_mlx, create_mlx_backend,
                                           get_default_mlx_model_config)
from whisperengine.llm.smart_backend_selector import BackendInfo, get_smart_backend_selector

backend: Optional[MLXBackend] = create_mlx_backend()
if backend:
    config: MLXModelConfig = get_default_mlx_model_config("llama-3.1-8b-instruct")
    loaded: bool = backend.load_model(config)
    text: str = backend.generate_response("Hello", max_tokens=10, temperature=0.7, stop=["\n"])
    for piece in backend.generate_response_async(prompt="Hello"):
        text += piece
    info: Dict[str, Any] = backend.get_model_info()
    backend.generate_response(7)  # type: ignore[arg-type]
    backend.generate_response("Hello", max_token=10)  # type: ignore[call-arg]
    backend.unload_model()


async def ask(b: MLXBackend) -> str:
    whole: str = await b.generate_response_async("Hello")
    async for part in b.generate_response_async("Hello", raw=True):
        whole += part
    return whole


names: List[str] = MLXBackend.find_available_models()
available: bool = MLXBackend.is_available(device="mlx")
converted: bool = convert_model_to_mlx(source_model_path="./a", target_model_name="b", quantize=True, q_bits=4)

selector = get_smart_backend_selector()
best: Optional[BackendInfo] = selector.get_optimal_backend()
chain: List[BackendInfo] = selector.get_fallback_chain()
done: bool = selector.auto_configure_environment(dotenv=True)
advice: List[str] = selector.get_setup_recommendations()
print(chain[0].nothing)  # type: ignore[attr-defined]

client = LLMClient(api_url="mlx://default", timeout=30)
try:
    response = client.chat_completion(messages=[{"role": "user", "content": "Hello"}])
except ModelNotFoundError as e:
    print(e)
except WhisperEngineError:
    raise
seed_client: LLMClient = SeedClient("mlx://default")
if backend:
    asyncio.run(ask(backend))
