# SPDX-License-Identifier: Apache-2.0
"""Headers of transport protocols as bytes, for raw sockets. Everything else is scapy's."""

from __future__ import annotations

import ipaddress
import struct

_CRC32C_POLYNOMIAL = 0x82F63B78  # Castagnoli, reflected
SCTP_INIT, SCTP_INIT_ACK = 1, 2
ICMP_ECHO = (8, 0)  # type and code


def _crc_table() -> list[int]:
    table = []
    for value in range(256):
        crc = value
        for _ in range(8):
            crc = crc >> 1 ^ (_CRC32C_POLYNOMIAL if crc & 1 else 0)
        table.append(crc)
    return table


_TABLE = _crc_table()


def crc32c(data: bytes) -> int:
    """SCTP's checksum (RFC 9260, appendix A)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def internet_checksum(data: bytes) -> int:
    """RFC 1071."""
    padded = data + b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def pseudo_header(source: str, destination: str, protocol: int, length: int) -> bytes:
    """What transport checksums cover beside their own header."""
    addresses = ipaddress.ip_address(source).packed + ipaddress.ip_address(destination).packed
    if ":" in source:
        return addresses + struct.pack(">II", length, protocol)
    return addresses + struct.pack(">BBH", 0, protocol, length)


def tcp_segment(
    source: tuple[str, int], destination: tuple[str, int], flags: int, payload: bytes = b""
) -> bytes:
    """A TCP segment of one's own choice of flags, checksum included."""
    head = struct.pack(">HHIIBBHHH", source[1], destination[1], 1000, 0, 5 << 4, flags, 8192, 0, 0) + payload
    checksum = internet_checksum(pseudo_header(source[0], destination[0], 6, len(head)) + head)
    return head[:16] + struct.pack(">H", checksum) + head[18:]


def sctp_init(source: int, destination: int, tag: int, *, answer_to: int = 0) -> bytes:
    """An INIT chunk with the initiate tag `tag`, or the INIT ACK to the INIT that carried `answer_to`."""
    kind = SCTP_INIT_ACK if answer_to else SCTP_INIT
    cookie = struct.pack(">HHI", 7, 8, tag) if answer_to else b""
    chunk = struct.pack(">BBHIIHHI", kind, 0, 20 + len(cookie), tag, 65535, 1, 1, 1) + cookie
    head = struct.pack(">HHI", source, destination, answer_to)
    return head + struct.pack("<I", crc32c(head + bytes(4) + chunk)) + chunk


def icmp_message(kind: int, code: int, identifier: int, payload: bytes) -> bytes:
    """An ICMP message with an identifier, checksum for IPv4 (the kernel writes ICMPv6's)."""
    head = struct.pack(">BBHHH", kind, code, 0, identifier, 1) + payload
    return head[:2] + struct.pack(">H", internet_checksum(head)) + head[4:]


def ipv4_packet(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    """An IPv4 packet; the kernel fills in length and checksum."""
    ends = ipaddress.IPv4Address(source).packed + ipaddress.IPv4Address(destination).packed
    return struct.pack(">BBHHHBBH", 0x45, 0, 0, 1, 0, 64, protocol, 0) + ends + payload
