def networks():
    return {}
