"""cc_library, cc_test and cc_binary that compile a rule's .cc files together, a few at a time.

Most of what a file costs to compile is what it includes: gRPC, Protocol Buffers and Abseil are parsed, and their
templates instantiated, once a compiler process. The engine's files take 46 s of gcc together and 115 s each alone.
(Unity builds in CMake's words, jumbo builds in Chromium's.)

Each file still compiles by itself, includes what it uses, and depends on no other's order: --define=apart=yes
builds so, and tests/run --all does. Names of unnamed namespaces differ within a rule.
"""

# Files compiled together at most. Fewer keep two cores busy and a change's recompilation short.
FILES_MAX = 8

def _together_impl(ctx):
    ctx.actions.write(
        ctx.outputs.out,
        "".join(['#include "%s"\n' % source.short_path for source in ctx.files.srcs]),
    )

_together = rule(
    implementation = _together_impl,
    attrs = {
        "srcs": attr.label_list(allow_files = [".cc"]),
        "out": attr.output(mandatory = True),
    },
)

def _compiled(native_rule, name, srcs = [], deps = [], **attributes):
    sources = [source for source in srcs if source.endswith(".cc")]
    if len(sources) < 2:
        native_rule(name = name, srcs = srcs, deps = deps, **attributes)
        return
    count = (len(sources) + FILES_MAX - 1) // FILES_MAX
    size = (len(sources) + count - 1) // count
    together = []
    for i in range(count):
        out = "%s_together_%d.cc" % (name, i + 1)
        _together(
            name = out[:-len(".cc")],
            srcs = sources[i * size:(i + 1) * size],
            out = out,
            tags = ["manual"],
            visibility = ["//visibility:private"],
        )
        together.append(out)
    parts = name + "_parts"
    native.cc_library(
        name = parts,
        textual_hdrs = sources,
        tags = ["manual"],
        visibility = ["//visibility:private"],
    )
    native_rule(
        name = name,
        srcs = [source for source in srcs if not source.endswith(".cc")] + select({
            "//bazel:apart": sources,
            "//conditions:default": together,
        }),
        deps = deps + [":" + parts],
        **attributes
    )

def cc_library(name, **attributes):
    _compiled(native.cc_library, name, **attributes)

def cc_test(name, **attributes):
    _compiled(native.cc_test, name, **attributes)

def cc_binary(name, **attributes):
    _compiled(native.cc_binary, name, **attributes)
