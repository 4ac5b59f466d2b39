/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What the programs share with user space, stated once: wildcard_operator.datapath.abi
 * reads enums, sizes and offsets from the objects' BTF.
 *
 * Scopes and classes are in network byte order wherever they stand, as in a key.
 */
#ifndef ABI_H
#define ABI_H

/* Part of the pins' path. Raise it when a struct or a map changes its meaning or its size. */
enum layout {
	LAYOUT_VERSION = 2,
};

enum direction {
	DIRECTION_INGRESS,
	DIRECTION_EGRESS,
	DIRECTIONS,
};

enum action {
	ACTION_NONE, /* no rule decides */
	ACTION_ALLOW,
	ACTION_DROP,
	ACTION_PASS,
};

/* The value of an entry of the rules. */
struct decision {
	__u8 action;	  /* enum action */
	__u8 audit;	  /* counts, decides nothing */
	__u8 flags_value; /* TCP flags: matches where (flags & mask) == value */
	__u8 flags_mask;
};

/* The value of a row of the addresses: what the node knows of an end. 0 is "none" in every field.
 */
struct endpoint {
	__u32 pod; /* number of the node's own pod that holds the address */
	__u32 peer_class;
	__u32 policy[DIRECTIONS]; /* scopes */
	__u32 filter[DIRECTIONS];
	__u32 node; /* not 0: an address of this node */
};

/* The value of a row of the interfaces. */
struct interface {
	struct endpoint pod;	/* the pod behind a pod's interface; pod.pod is 0 on all others */
	__u32 host[DIRECTIONS]; /* scopes of node filters */
	/* An address of the pod in each family, whose row says the same as `pod`; or 0. */
	__be32 v4;
	struct in6_addr v6;
};

/* What becomes of the packets of a connection that was allowed when it began. */
enum established {
	ESTABLISHED_JUDGE, /* every packet, so a change of policy cuts at once what it forbids */
	ESTABLISHED_PASS,
};

/*
 * Says which program judges while one replaces another, so it outlives layouts: no field may ever
 * move. All others accept, judging and counting nothing.
 */
struct control {
	__u32 active;	   /* a set of slots; two only for the moment of a handover */
	__u32 established; /* enum established */
};

/* What no rule's counter tells. Dropped: */
enum event {
	EVENT_SPOOFED,	   /* a pod's interface, and not one of the pod's addresses */
	EVENT_MALFORMED,   /* under isolation: truncated, or too many headers to judge */
	EVENT_FRAGMENT,	   /* under isolation: a piece without its ports */
	EVENT_UNKNOWN_POD, /* an address of the node's pod ranges that nothing is known of */
	/* Passed: */
	EVENT_OWN_NODE,
	EVENT_SELF,
	EVENT_RELATED,	   /* ICMP errors and resets of a known connection */
	EVENT_NEIGHBOUR,   /* neighbour discovery, MLD, packet too big */
	EVENT_ESTABLISHED, /* unjudged, by ESTABLISHED_PASS */
	/* Judged as any other: */
	EVENT_UNTRACKED, /* no connection tracking state: taken as new */
	EVENTS,
};

#endif /* ABI_H */
