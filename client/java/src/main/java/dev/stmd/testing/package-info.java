/** For tests: a daemon of their own. */
package dev.stmd.testing;
