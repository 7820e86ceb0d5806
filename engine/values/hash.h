// SipHash (Aumasson and Bernstein, "SipHash: a fast short-input PRF"), C rounds a word and D at the end, on
// bytes taken as little-endian words. Values use 1 and 3 rounds under a key of our own that never changes:
// their hashes are part of the log's format, and still nobody finds equal ones for the asking. Pure; any
// thread.
#ifndef STM_ENGINE_VALUES_HASH_H_
#define STM_ENGINE_VALUES_HASH_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace stm {

template <int C, int D>
uint64_t SipHash(uint64_t key0, uint64_t key1, std::string_view bytes) {
  uint64_t v0 = key0 ^ 0x736f6d6570736575u;
  uint64_t v1 = key1 ^ 0x646f72616e646f6du;
  uint64_t v2 = key0 ^ 0x6c7967656e657261u;
  uint64_t v3 = key1 ^ 0x7465646279746573u;
  const auto rotate = [](uint64_t x, int n) { return x << n | x >> (64 - n); };
  const auto round = [&] {
    v0 += v1;
    v1 = rotate(v1, 13) ^ v0;
    v0 = rotate(v0, 32);
    v2 += v3;
    v3 = rotate(v3, 16) ^ v2;
    v0 += v3;
    v3 = rotate(v3, 21) ^ v0;
    v2 += v1;
    v1 = rotate(v1, 17) ^ v2;
    v2 = rotate(v2, 32);
  };
  const auto absorb = [&](uint64_t word) {
    v3 ^= word;
    for (int i = 0; i < C; ++i) round();
    v0 ^= word;
  };
  const char* p = bytes.data();
  size_t left = bytes.size();
  for (; left >= 8; left -= 8, p += 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    absorb(word);
  }
  uint64_t last = static_cast<uint64_t>(bytes.size()) << 56;
  for (size_t i = 0; i < left; ++i)
    last |= static_cast<uint64_t>(static_cast<unsigned char>(p[i])) << (8 * i);
  absorb(last);
  v2 ^= 0xff;
  for (int i = 0; i < D; ++i) round();
  return v0 ^ v1 ^ v2 ^ v3;
}

// One hash out of two; order counts. Every bit of the result hangs on every bit of both (the finish is
// MurmurHash3's).
inline uint64_t MixHash(uint64_t a, uint64_t b) {
  uint64_t h = a * 0x9e3779b97f4a7c15u + (b ^ b >> 32);
  h ^= h >> 33;
  h *= 0xff51afd7ed558ccdu;
  h ^= h >> 33;
  h *= 0xc4ceb9fe1a85ec53u;
  h ^= h >> 33;
  return h;
}

}  // namespace stm

#endif  // STM_ENGINE_VALUES_HASH_H_
