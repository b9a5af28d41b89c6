# SPDX-License-Identifier: Apache-2.0
"""Another name for whisperengine.llm."""
