/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Describing a key. WILDCARD_DESC_n(name, kind, type, field, ...) with n of 1 to 9
 * makes `struct name_elem`, the key of a lookup, and `name_desc`, the description that
 * lookups are compiled for. A kind is PREFIX, RANGE, MATCH or WILDCARD_MATCH; it stands
 * in the BTF as a declaration tag, so user space reads all from the object and nothing
 * is stated twice.
 */
#ifndef WILDCARD_DESCRIBE_H
#define WILDCARD_DESCRIBE_H

#define WILDCARD_MAX_FIELDS 9

enum wildcard_kind {
	WILDCARD_KIND_PREFIX = 1,
	WILDCARD_KIND_RANGE,
	WILDCARD_KIND_MATCH,
	WILDCARD_KIND_WILDCARD_MATCH,
};

struct wildcard_field {
	__u8 kind;  /* enum wildcard_kind; 0: no such field */
	__u8 word;  /* where the word of the key starts that it starts in, bytes */
	__u8 left;  /* bits before it in that word */
	__u8 right; /* bits that it leaves free in a word */
};

struct wildcard_desc {
	__u32 words; /* 8-byte words of the key */
	struct wildcard_field field[WILDCARD_MAX_FIELDS];
};

/* clang-format off */
#define WILDCARD_MEMBER_(name, kind, type, member)                                                 \
	type member __attribute__((btf_decl_tag("wildcard:" #kind)));
#define WILDCARD_SIZE_(name, kind, type, member) + sizeof(type)
/* 4-byte units, see struct wildcard_entry */
#define WILDCARD_BOUNDS_(name, kind, type, member)                                                 \
	+ (WILDCARD_KIND_##kind == WILDCARD_KIND_RANGE ? (sizeof(type) <= 2 ? 1 : 4) : 0)
#define WILDCARD_FIELD_(name, kind, type, member)                                                  \
	{ WILDCARD_KIND_##kind, __builtin_offsetof(struct name##_elem, member) & ~7,               \
	  __builtin_offsetof(struct name##_elem, member) % 8 * 8,                                  \
	  (64 - 8 * sizeof(type)) & 63 },
#define WILDCARD_CHECK_(name, kind, type, member)                                                  \
	_Static_assert(sizeof(type) == 1 || sizeof(type) == 2 || sizeof(type) == 4 ||              \
		       sizeof(type) == 8 ||                                                        \
		       (sizeof(type) == 16 && WILDCARD_KIND_##kind != WILDCARD_KIND_RANGE),        \
		       #member ": a field has 1, 2, 4, 8 or (unless RANGE) 16 bytes");

#define WILDCARD_DESC_(name, each, ...)                                                            \
	each(WILDCARD_CHECK_, name, __VA_ARGS__)                                                   \
	struct name##_elem {                                                                       \
		each(WILDCARD_MEMBER_, name, __VA_ARGS__)                                          \
		__u8 wildcard_pad[-(0 each(WILDCARD_SIZE_, name, __VA_ARGS__)) & 7];               \
	} __attribute__((packed, aligned(8)));                                                     \
	_Static_assert(sizeof(struct name##_elem) <= 8 * WILDCARD_MAX_WORDS,                       \
		       #name ": a key has at most 128 bytes");                                     \
	enum {                                                                                     \
		name##_words = sizeof(struct name##_elem) / 8,                                     \
		name##_bounds = (0 each(WILDCARD_BOUNDS_, name, __VA_ARGS__) + 1) / 2,             \
	};                                                                                         \
	static const struct wildcard_desc __attribute__((unused)) name##_desc = {                                     \
		.words = name##_words,                                                             \
		.field = { each(WILDCARD_FIELD_, name, __VA_ARGS__) },                             \
	}

#define WILDCARD_EACH_1(X, c, k1, t1, m1) \
	X(c, k1, t1, m1)
#define WILDCARD_EACH_2(X, c, k1, t1, m1, k2, t2, m2) \
	WILDCARD_EACH_1(X, c, k1, t1, m1) X(c, k2, t2, m2)
#define WILDCARD_EACH_3(X, c, k1, t1, m1, k2, t2, m2, k3, t3, m3) \
	WILDCARD_EACH_2(X, c, k1, t1, m1, k2, t2, m2) X(c, k3, t3, m3)
#define WILDCARD_EACH_4(X, c, k1, t1, m1, k2, t2, m2, k3, t3, m3, k4, t4, m4) \
	WILDCARD_EACH_3(X, c, k1, t1, m1, k2, t2, m2, k3, t3, m3) X(c, k4, t4, m4)
#define WILDCARD_EACH_5(X, c, k1, t1, m1, k2, t2, m2, k3, t3, m3, k4, t4, m4, k5, t5, m5) \
	WILDCARD_EACH_4(X, c, k1, t1, m1, k2, t2, m2, k3, t3, m3, k4, t4, m4) X(c, k5, t5, m5)
#define WILDCARD_EACH_6(X, c, k1, t1, m1, k2, t2, m2, k3, t3, m3, k4, t4, m4, k5, t5, m5, k6, t6, m6) \
	WILDCARD_EACH_5(X, c, k1, t1, m1, k2, t2, m2, k3, t3, m3, k4, t4, m4, k5, t5, m5) X(c, k6, t6, m6)
#define WILDCARD_EACH_7(X, c, k1, t1, m1, k2, t2, m2, k3, t3, m3, k4, t4, m4, k5, t5, m5, k6, t6, m6, k7, t7, m7) \
	WILDCARD_EACH_6(X, c, k1, t1, m1, k2, t2, m2, k3, t3, m3, k4, t4, m4, k5, t5, m5, k6, t6, m6) X(c, k7, t7, m7)
#define WILDCARD_EACH_8(X, c, k1, t1, m1, k2, t2, m2, k3, t3, m3, k4, t4, m4, k5, t5, m5, k6, t6, m6, k7, t7, m7, k8, t8, m8) \
	WILDCARD_EACH_7(X, c, k1, t1, m1, k2, t2, m2, k3, t3, m3, k4, t4, m4, k5, t5, m5, k6, t6, m6, k7, t7, m7) X(c, k8, t8, m8)
#define WILDCARD_EACH_9(X, c, k1, t1, m1, k2, t2, m2, k3, t3, m3, k4, t4, m4, k5, t5, m5, k6, t6, m6, k7, t7, m7, k8, t8, m8, k9, t9, m9) \
	WILDCARD_EACH_8(X, c, k1, t1, m1, k2, t2, m2, k3, t3, m3, k4, t4, m4, k5, t5, m5, k6, t6, m6, k7, t7, m7, k8, t8, m8) X(c, k9, t9, m9)

#define WILDCARD_DESC_1(name, ...) WILDCARD_DESC_(name, WILDCARD_EACH_1, __VA_ARGS__)
#define WILDCARD_DESC_2(name, ...) WILDCARD_DESC_(name, WILDCARD_EACH_2, __VA_ARGS__)
#define WILDCARD_DESC_3(name, ...) WILDCARD_DESC_(name, WILDCARD_EACH_3, __VA_ARGS__)
#define WILDCARD_DESC_4(name, ...) WILDCARD_DESC_(name, WILDCARD_EACH_4, __VA_ARGS__)
#define WILDCARD_DESC_5(name, ...) WILDCARD_DESC_(name, WILDCARD_EACH_5, __VA_ARGS__)
#define WILDCARD_DESC_6(name, ...) WILDCARD_DESC_(name, WILDCARD_EACH_6, __VA_ARGS__)
#define WILDCARD_DESC_7(name, ...) WILDCARD_DESC_(name, WILDCARD_EACH_7, __VA_ARGS__)
#define WILDCARD_DESC_8(name, ...) WILDCARD_DESC_(name, WILDCARD_EACH_8, __VA_ARGS__)
#define WILDCARD_DESC_9(name, ...) WILDCARD_DESC_(name, WILDCARD_EACH_9, __VA_ARGS__)
/* clang-format on */

#endif /* WILDCARD_DESCRIBE_H */
