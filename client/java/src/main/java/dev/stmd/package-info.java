/** The stmd client: see {@link dev.stmd.Stm}. */
package dev.stmd;
