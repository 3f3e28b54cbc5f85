/** Writes `tree/page/index.html`. The same sources make the same bytes. */
export function bundlePage(tree: string): Promise<void>;
