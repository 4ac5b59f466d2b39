# SPDX-License-Identifier: Apache-2.0
"""The only user of the Kubernetes client."""
