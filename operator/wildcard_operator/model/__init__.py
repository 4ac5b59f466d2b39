# SPDX-License-Identifier: Apache-2.0
"""What policies speak of, as frozen dataclasses. Standard library only."""
