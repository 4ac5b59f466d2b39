/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Reads the headers that rules speak of, from the IP header on.
 *
 * What is not plain (see parse_plain_transport()) is read through a dynptr, so netfilter and XDP
 * share the code and data in fragments of the buffer is no special case. A field is in the packet's
 * byte order.
 *
 * Nothing is guessed. What cannot be read to the end leaves `state` at PACKET_MALFORMED with ports
 * 0. Of a datagram in pieces the first has the ports, the others have what only rules for any port
 * match: who drops the first has dropped all. Addresses and protocol are valid unless `state` is
 * PACKET_NOT_IP.
 */
#ifndef LIB_PACKET_H
#define LIB_PACKET_H

extern void *bpf_dynptr_slice(const struct bpf_dynptr *ptr, __u32 offset, void *buffer,
			      __u32 buffer__szk) __ksym;

#define IP_OFFSET 0x1fff	 /* of frag_off */
#define IP_OFFSET_OR_MORE 0x3fff /* ... and the flag "more fragments" */
#define IP6_OFFSET 0xfff8
#define IP6_MORE 0x0001
#define MAX_EXTENSION_HEADERS 8

enum packet_state {
	PACKET_WHOLE,
	PACKET_FRAGMENT, /* a piece of a datagram, the first one too */
	PACKET_MALFORMED,
	PACKET_NOT_IP, /* not even an IP header */
};

union address {
	__be32 v4;
	struct in6_addr v6;
};

struct packet {
	union address saddr;
	union address daddr;
	__be16 sport; /* ICMP: the type */
	__be16 dport; /* ICMP: the code */
	__u8 protocol;
	__u8 tcp_flags;
	__u8 hop_limit;
	__u8 state; /* enum packet_state */
};

static __always_inline void parse_transport(const struct bpf_dynptr *data, __u32 offset,
					    struct packet *packet)
{
	union {
		struct tcphdr tcp;
		struct udphdr udp;
		struct sctphdr sctp;
		struct icmphdr icmp;
	} buffer, *header;

	switch (packet->protocol) {
	case IPPROTO_TCP:
		header = bpf_dynptr_slice(data, offset, &buffer, sizeof(struct tcphdr));
		if (!header || header->tcp.doff < 5)
			break;
		packet->sport = header->tcp.source;
		packet->dport = header->tcp.dest;
		packet->tcp_flags = ((__u8 *)&header->tcp)[TCP_FLAG_BYTE];
		return;
	case IPPROTO_UDP:
		header = bpf_dynptr_slice(data, offset, &buffer, sizeof(struct udphdr));
		if (!header)
			break;
		packet->sport = header->udp.source;
		packet->dport = header->udp.dest;
		return;
	case IPPROTO_SCTP:
		header = bpf_dynptr_slice(data, offset, &buffer, sizeof(struct sctphdr));
		if (!header)
			break;
		packet->sport = header->sctp.source;
		packet->dport = header->sctp.dest;
		return;
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		header = bpf_dynptr_slice(data, offset, &buffer, sizeof(struct icmphdr));
		if (!header)
			break;
		packet->sport = bpf_htons(header->icmp.type);
		packet->dport = bpf_htons(header->icmp.code);
		return;
	default:
		return; /* no ports that we know of: only rules for any port can match */
	}
	packet->state = PACKET_MALFORMED;
}

/* 0 is no port that a rule can ask for, but it is a type and a code. */
static __always_inline void mark_later_piece(struct packet *packet)
{
	if (packet->protocol == IPPROTO_ICMP || packet->protocol == IPPROTO_ICMPV6)
		packet->sport = packet->dport = 0xffff;
}

static __always_inline void parse_ipv4(const struct bpf_dynptr *data, __u32 offset,
				       struct packet *packet)
{
	struct iphdr buffer, *header;

	header = bpf_dynptr_slice(data, offset, &buffer, sizeof(buffer));
	if (!header || header->version != 4 || header->ihl < 5) {
		packet->state = PACKET_NOT_IP;
		return;
	}
	packet->saddr.v4 = header->saddr;
	packet->daddr.v4 = header->daddr;
	packet->protocol = header->protocol;
	packet->hop_limit = header->ttl;
	if (header->frag_off & bpf_htons(IP_OFFSET_OR_MORE))
		packet->state = PACKET_FRAGMENT;
	if (header->frag_off & bpf_htons(IP_OFFSET))
		mark_later_piece(packet);
	else
		parse_transport(data, offset + header->ihl * 4, packet);
}

static __always_inline void parse_ipv6(const struct bpf_dynptr *data, __u32 offset,
				       struct packet *packet)
{
	struct ipv6hdr buffer, *header;
	__u8 next;
	int i;

	header = bpf_dynptr_slice(data, offset, &buffer, sizeof(buffer));
	if (!header || header->version != 6) {
		packet->state = PACKET_NOT_IP;
		return;
	}
	packet->saddr.v6 = header->saddr;
	packet->daddr.v6 = header->daddr;
	packet->hop_limit = header->hop_limit;
	next = header->nexthdr;
	offset += sizeof(*header);

	for (i = 0; i <= MAX_EXTENSION_HEADERS; i++) {
		struct frag_hdr extension_buffer, *fragment;
		struct ipv6_opt_hdr *extension;

		packet->protocol = next;
		switch (next) {
		case NEXTHDR_HOP:
		case NEXTHDR_ROUTING:
		case NEXTHDR_DEST:
		case NEXTHDR_AUTH:
		case NEXTHDR_FRAGMENT:
			break;
		default:
			parse_transport(data, offset, packet);
			return;
		}
		fragment = bpf_dynptr_slice(data, offset, &extension_buffer, sizeof(*fragment));
		if (!fragment)
			break;
		if (next == NEXTHDR_FRAGMENT &&
		    fragment->frag_off & bpf_htons(IP6_OFFSET | IP6_MORE))
			packet->state = PACKET_FRAGMENT;
		if (next == NEXTHDR_FRAGMENT && fragment->frag_off & bpf_htons(IP6_OFFSET)) {
			packet->protocol = fragment->nexthdr;
			mark_later_piece(packet);
			return;
		}
		extension = (struct ipv6_opt_hdr *)fragment;
		if (next == NEXTHDR_AUTH)
			offset += (extension->hdrlen + 2) * 4;
		else if (next == NEXTHDR_FRAGMENT)
			offset += sizeof(*fragment);
		else
			offset += (extension->hdrlen + 1) * 8;
		next = extension->nexthdr;
	}
	packet->state = PACKET_MALFORMED;
}

/*
 * Plain packets are most of what there is: TCP and UDP over IPv4 without options, or over IPv6
 * without extension headers, whole datagrams. They are read without a call. `transport` is what
 * lies right behind `ip`, of a TCP header's length: the caller has made sure that both are there.
 * False for any other packet, and `packet` stays as it was.
 */
static __always_inline bool parse_plain_transport(const struct tcphdr *transport, __u8 protocol,
						  struct packet *packet)
{
	if (protocol == IPPROTO_TCP && transport->doff >= 5)
		packet->tcp_flags = ((const __u8 *)transport)[TCP_FLAG_BYTE];
	else if (protocol != IPPROTO_UDP)
		return false;
	packet->protocol = protocol;
	packet->sport = transport->source;
	packet->dport = transport->dest;
	return true;
}

static __always_inline bool parse_plain_ipv4(const struct iphdr *ip, const struct tcphdr *transport,
					     struct packet *packet)
{
	if (ip->version != 4 || ip->ihl != 5 || ip->frag_off & bpf_htons(IP_OFFSET_OR_MORE) ||
	    !parse_plain_transport(transport, ip->protocol, packet))
		return false;
	packet->saddr.v4 = ip->saddr;
	packet->daddr.v4 = ip->daddr;
	return true;
}

static __always_inline bool parse_plain_ipv6(const struct ipv6hdr *ip,
					     const struct tcphdr *transport, struct packet *packet)
{
	if (ip->version != 6 || !parse_plain_transport(transport, ip->nexthdr, packet))
		return false;
	packet->saddr.v6 = ip->saddr;
	packet->daddr.v6 = ip->daddr;
	return true;
}

static __always_inline bool same_address(const union address *a, const union address *b, bool v6)
{
	if (!v6)
		return a->v4 == b->v4;
	return a->v6.in6_u.u6_addr32[0] == b->v6.in6_u.u6_addr32[0] &&
	       a->v6.in6_u.u6_addr32[1] == b->v6.in6_u.u6_addr32[1] &&
	       a->v6.in6_u.u6_addr32[2] == b->v6.in6_u.u6_addr32[2] &&
	       a->v6.in6_u.u6_addr32[3] == b->v6.in6_u.u6_addr32[3];
}

/* Addresses that name no one in particular: a table of addresses can't say whose they are. */
static __always_inline bool is_link_local(const union address *address, bool v6)
{
	if (v6)
		return (address->v6.in6_u.u6_addr32[0] & bpf_htonl(0xffc00000)) ==
		       bpf_htonl(0xfe800000);
	return (address->v4 & bpf_htonl(0xffff0000)) == bpf_htonl(0xa9fe0000);
}

static __always_inline bool is_unspecified(const union address *address, bool v6)
{
	const union address none = {};

	return same_address(address, &none, v6);
}

#endif /* LIB_PACKET_H */
