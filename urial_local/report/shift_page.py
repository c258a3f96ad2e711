def write_page(folder, summary):
    pass
