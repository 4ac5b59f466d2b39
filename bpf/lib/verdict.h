/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The order of a verdict. docs/datapath.md gives the reason for each step. */
#ifndef LIB_VERDICT_H
#define LIB_VERDICT_H

static __always_inline int dropped(enum event event, const struct query *query)
{
	count_event(event, query->bytes);
	return NF_DROP;
}

static __always_inline int passed(enum event event, const struct query *query)
{
	count_event(event, query->bytes);
	return NF_ACCEPT;
}

/*
 * Turns a reply into the original of its connection: at our place in the stack it is exactly that
 * with the ends swapped, whatever NAT does to either. False where a packet has no original, which
 * the kernel's connection tracking does not produce.
 */
static __always_inline bool mirror(struct packet *packet, bool v6)
{
	union address saddr = packet->saddr;
	__be16 sport = packet->sport;

	if (is_icmp(packet, v6)) {
		int request = icmp_request_of(icmp_type(packet), v6);

		if (request < 0)
			return false;
		packet->sport = bpf_htons(request);
	} else {
		packet->sport = packet->dport;
		packet->dport = sport;
	}
	packet->saddr = packet->daddr;
	packet->daddr = saddr;
	return true;
}

/* An error about a known connection, or a reset that the node makes in the name of one end. */
static __always_inline bool is_related_error(const struct packet *packet, __u32 ifindex, bool v6)
{
	return is_icmp_error(packet, v6) ||
	       (!ifindex && packet->protocol == IPPROTO_TCP && packet->tcp_flags & TCP_RST);
}

/* One end's say: its filters, then its policies. */
static __always_inline bool end_agrees(struct query *query, const struct endpoint *end,
				       enum direction direction, __be32 peer_class, bool v6)
{
	enum action action = action_of(query, end->filter[direction], peer_class, v6);

	if (action == ACTION_ALLOW)
		return true;
	if (action == ACTION_DROP)
		return false;
	if (!end->policy[direction])
		return true;
	/* A scope of policies ends in a default deny; without any answer, deny as well. */
	return action_of(query, end->policy[direction], peer_class, v6) == ACTION_ALLOW;
}

static __always_inline bool is_isolated(const struct endpoint *from, const struct endpoint *to)
{
	return from->policy[DIRECTION_EGRESS] || from->filter[DIRECTION_EGRESS] ||
	       to->policy[DIRECTION_INGRESS] || to->filter[DIRECTION_INGRESS];
}

/* `from` and `to` are the ends of the connection: of the original, not of a reply. */
static __always_inline int judge_ends(struct query *query, const struct endpoint *from,
				      const struct endpoint *to, bool v6)
{
	if (!is_isolated(from, to))
		return NF_ACCEPT;
	if (query->packet.state == PACKET_FRAGMENT)
		return dropped(EVENT_FRAGMENT, query);
	if (query->packet.state == PACKET_MALFORMED)
		return dropped(EVENT_MALFORMED, query);
	if (!end_agrees(query, from, DIRECTION_EGRESS, to->peer_class, v6) ||
	    !end_agrees(query, to, DIRECTION_INGRESS, from->peer_class, v6))
		return NF_DROP;
	return NF_ACCEPT;
}

static __always_inline int judge_forwarded(const struct nf_hook_state *state, struct sk_buff *skb,
					   struct query *query, enum established established,
					   const bool v6)
{
	struct packet *packet = &query->packet;
	struct endpoint from = {}, to = {};
	const struct interface *out, *in_port, *out_port;
	enum connection connection;
	enum whose source, destination;

	if (v6 && is_neighbour_traffic(packet))
		return passed(EVENT_NEIGHBOUR, query);
	out = interface_of(query->snapshot, state->out->ifindex);
	if (out && action_of(query, out->host[DIRECTION_EGRESS], 0, v6) == ACTION_DROP)
		return NF_DROP;

	in_port = incoming_port(skb, query->snapshot);
	source = sender(query->snapshot, packet, v6, in_port, &from);
	if (source == WHOSE_FORGED)
		return dropped(EVENT_SPOOFED, query);
	if (!skb->skb_iif && from.node)
		return passed(EVENT_OWN_NODE, query);
	/* On a bridge the device is the port, and the outgoing interface the bridge. */
	if (skb->dev->ifindex == state->out->ifindex)
		out_port = out && out->pod.pod ? out : NULL;
	else
		out_port = pod_port(query->snapshot, skb->dev->ifindex);
	destination = receiver(query->snapshot, packet, v6, out_port, &to);
	if (from.pod && from.pod == to.pod)
		return passed(EVENT_SELF, query);
	if ((source == WHOSE_UNKNOWN && is_unknown_pod(query->snapshot, &packet->saddr, v6)) ||
	    (destination == WHOSE_UNKNOWN && is_unknown_pod(query->snapshot, &packet->daddr, v6)))
		return dropped(EVENT_UNKNOWN_POD, query);

	connection = connection_state(skb);
	switch (connection) {
	case CONNECTION_RELATED:
		if (is_related_error(packet, skb->skb_iif, v6))
			return passed(EVENT_RELATED, query);
		break;
	case CONNECTION_ORIGINAL:
	case CONNECTION_REPLY:
		if (established == ESTABLISHED_PASS)
			return passed(EVENT_ESTABLISHED, query);
		break;
	case CONNECTION_UNTRACKED:
		count_event(EVENT_UNTRACKED, query->bytes);
		break;
	case CONNECTION_NEW:
		break;
	}
	if (connection == CONNECTION_REPLY && mirror(packet, v6)) {
		query->mirrored = true;
		return judge_ends(query, &to, &from, v6);
	}
	return judge_ends(query, &from, &to, v6);
}

/* What a pod sends to its own node: no policy may stop it, a filter of the pod may. */
static __always_inline int judge_to_node(struct sk_buff *skb, struct query *query, const bool v6)
{
	struct packet *packet = &query->packet;
	const struct interface *in_port;
	const struct endpoint none = {};
	enum connection connection;
	struct endpoint from = {};

	if (v6 && is_neighbour_traffic(packet))
		return NF_ACCEPT;
	in_port = incoming_port(skb, query->snapshot);
	if (sender(query->snapshot, packet, v6, in_port, &from) == WHOSE_FORGED)
		return dropped(EVENT_SPOOFED, query);
	connection = connection_state(skb);
	/* The answer to what the node began, and errors. */
	if (connection == CONNECTION_REPLY ||
	    (connection == CONNECTION_RELATED && is_related_error(packet, skb->skb_iif, v6)))
		return NF_ACCEPT;
	from.policy[DIRECTION_EGRESS] = 0;
	return judge_ends(query, &from, &none, v6);
}

#endif /* LIB_VERDICT_H */
