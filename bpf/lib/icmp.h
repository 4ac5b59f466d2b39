/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * ICMP: what keeps a network alive, what reports an error, and which request a reply answers.
 * A packet's type stands in `sport`, its code in `dport`.
 */
#ifndef LIB_ICMP_H
#define LIB_ICMP_H

static __always_inline bool is_icmp(const struct packet *packet, bool v6)
{
	return packet->state == PACKET_WHOLE &&
	       packet->protocol == (v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
}

static __always_inline __u8 icmp_type(const struct packet *packet)
{
	return bpf_ntohs(packet->sport);
}

/*
 * Neighbour discovery, multicast listeners and "packet too big": without them there is no IPv6, so
 * no rule decides on them. A hop limit of 255 or 1 proves that a message was not forwarded.
 */
static __always_inline bool is_neighbour_traffic(const struct packet *packet)
{
	__u8 type = icmp_type(packet);

	if (!is_icmp(packet, true))
		return false;
	if (type >= ICMPV6_ND_ROUTER_SOLICITATION && type <= ICMPV6_ND_REDIRECT)
		return packet->hop_limit == 255;
	if ((type >= ICMPV6_MLD_QUERY && type <= ICMPV6_MLD_DONE) || type == ICMPV6_MLD2_REPORT)
		return packet->hop_limit == 1;
	return type == ICMPV6_PKT_TOOBIG;
}

static __always_inline bool is_icmp_error(const struct packet *packet, bool v6)
{
	__u8 type = icmp_type(packet);

	if (!is_icmp(packet, v6))
		return false;
	if (v6)
		return type < ICMPV6_INFORMATIONAL;
	return type == ICMP_DEST_UNREACH || type == ICMP_SOURCE_QUENCH || type == ICMP_REDIRECT ||
	       type == ICMP_TIME_EXCEEDED || type == ICMP_PARAMETERPROB;
}

/* The type of the request that a reply's type answers, -1 where the type is no reply's. */
static __always_inline int icmp_request_of(__u8 reply, bool v6)
{
	if (v6)
		return reply == ICMPV6_ECHO_REPLY ? ICMPV6_ECHO_REQUEST
		       : reply == ICMPV6_NI_REPLY ? ICMPV6_NI_QUERY
						  : -1;
	switch (reply) {
	case ICMP_ECHOREPLY:
		return ICMP_ECHO;
	case ICMP_TIMESTAMPREPLY:
		return ICMP_TIMESTAMP;
	case ICMP_INFO_REPLY:
		return ICMP_INFO_REQUEST;
	case ICMP_ADDRESSREPLY:
		return ICMP_ADDRESS;
	default:
		return -1;
	}
}

#endif /* LIB_ICMP_H */
