"""Fuzz targets: each is fuzzed by tests/fuzz/run, and replays its corpus as an ordinary test."""

def fuzz_target(name, srcs, deps):
    """Two targets of one LLVMFuzzerTestOneInput.

    NAME_fuzz, with libFuzzer, which tests/fuzz/run builds with clang; NAME_replay, a test that runs every file of
    corpus/NAME once. The seed corpus is corpus/NAME, a dictionary, if there is one, NAME.dict.

    Args:
      name: of what is fuzzed; also the folder in corpus/.
      srcs: where LLVMFuzzerTestOneInput is.
      deps: what it needs.
    """
    native.cc_binary(
        name = name + "_fuzz",
        testonly = True,
        srcs = srcs,
        linkopts = ["-fsanitize=fuzzer"],
        tags = [
            "fuzz",
            "manual",
        ],
        deps = deps,
    )
    native.cc_test(
        name = name + "_replay",
        size = "small",
        srcs = srcs + ["replay_main.cc"],
        args = ["tests/fuzz/corpus/" + name],
        data = native.glob(["corpus/" + name + "/**"]),
        deps = deps,
    )
