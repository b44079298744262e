def quantize(graph, batches):
    raise NotImplementedError
