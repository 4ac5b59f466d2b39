# SPDX-License-Identifier: Apache-2.0
"""Every metric and the logging set-up, in one place."""
