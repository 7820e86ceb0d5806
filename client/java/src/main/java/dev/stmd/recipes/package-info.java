/** What programs build from refs again and again, on the public API alone. Once is TransactOptions.once. */
package dev.stmd.recipes;
