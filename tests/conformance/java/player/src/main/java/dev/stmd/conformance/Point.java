package dev.stmd.conformance;

import dev.stmd.Tag;

/** The user's type that every driver has. */
@Tag("conf.Point")
public record Point(long x, long yAxis) {}
