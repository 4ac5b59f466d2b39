# SPDX-License-Identifier: Apache-2.0
"""The operator: watches, publishes, reports status."""
